"""charreg: characteristic regularisation for super-resolving genuinely small faces (Cheng et al., WACV 2020)."""

__version__ = "0.1.0"
