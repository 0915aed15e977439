"""Training in plain Keras: recipes, augmentation, and the fit."""
