"""The database's tables, one noun a file. Rows are read and written with SQLAlchemy Core."""
