"""The paper's method and nothing else: its networks, its losses, its trainings (Cheng et al., WACV 2020)."""
