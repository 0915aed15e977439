"""Search for better recipes with Optuna, which is imported only when something is tuned."""
