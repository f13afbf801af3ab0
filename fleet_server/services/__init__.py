"""What the server does, one noun a file: facts from the database, decisions from the domain, changes back in one audited transaction."""
