"""HTML reports and Markdown cards."""
