from .agents.workspace import Workspace as Workspace
from .core.documents import Document as Document
from .core.documents import Hit as Hit
from .core.documents import Passage as Passage
from .core.errors import RetrailError as RetrailError
from .core.filters import Filter as Filter
from .core.settings import Settings as Settings
from .core.trajectories import Answer as Answer
from .core.trajectories import Signal as Signal
from .core.trajectories import Step as Step
from .core.trajectories import Trajectory as Trajectory
from .memory.store import TrajectoryStore as TrajectoryStore
from .retrievers.index import Index as Index
from .retrievers.tokenizers import register_tokenizer as register_tokenizer

__version__: str
__all__: list[str]
