"""HTTP/1.1 for few local callers: a thread a connection, strict in what it takes, every wait and every length bounded."""
