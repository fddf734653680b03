"""Makes a stage run the code of the repository it stands in.

The installed charreg may be another checkout's: DVC runs queued and temporary experiments in a copy of the repository.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
