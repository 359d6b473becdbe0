"""How a report is shown: a page, Markdown, a terminal."""
