"""The model: recipes, networks, training, export and prediction."""
