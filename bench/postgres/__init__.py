"""What reading a queue in PostgreSQL costs the server, however much history it keeps."""
