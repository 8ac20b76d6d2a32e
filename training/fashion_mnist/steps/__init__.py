"""What the pipeline's steps do."""
