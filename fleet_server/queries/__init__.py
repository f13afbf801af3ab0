"""Questions to what devices recorded: rows in the lake, minutes in the database, SQL for people."""
