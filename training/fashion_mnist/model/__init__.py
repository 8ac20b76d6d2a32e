"""The model: recipes, networks, training, checkpoints, export and prediction."""
