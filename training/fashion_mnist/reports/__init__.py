"""HTML reports and Markdown cards for people."""
