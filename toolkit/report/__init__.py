"""A report of finished runs: what it says (content) and how it is written (HTML, markdown, CSV, pictures)."""
