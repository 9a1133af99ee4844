"""From files to checked tables: formats, columns, rejects."""
