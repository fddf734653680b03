"""Super-resolves faces that are small and bad because the world made them so.

    import charreg
    sr = charreg.load()
    result = sr("crowd.jpg")  # result.image, result.faces

Nothing heavy is imported before it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charreg.app.upscaler import Upscaler

__all__ = ["load"]


def load(model: Any = None, **options: Any) -> "Upscaler":
    """The shipped model, or one of your own, ready for photographs: see `charreg.app.upscaler.Upscaler.load`."""
    from charreg.app.upscaler import Upscaler

    return Upscaler.load(model, **options)
