"""Components, pipelines, and the command that compiles them."""
