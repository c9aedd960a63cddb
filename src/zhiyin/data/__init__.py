"""Files and tables in; a clean, indexed dataset out."""
