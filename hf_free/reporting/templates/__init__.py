"""The report page's template and style sheet."""
