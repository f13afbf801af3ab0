"""From the inbox into Parquet files and tables: every record once, whatever comes twice and whenever this is killed."""
