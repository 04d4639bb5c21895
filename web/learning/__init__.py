"""The learning loop in words and figures, for the page, the terminal and the report alike. Imports no web framework."""
