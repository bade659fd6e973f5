"""Evaluation of models by published protocols: tasks, benchmarks, prompts, and metrics with their provenance.

- `Task`: a way to evaluate models; `@register("name")` on a class of this kind adds one for `slap evaluate`.
- `EvalSet`, `EvalClip`: the clips to evaluate on, with captions or labels, from `slap.evaluation.data`.
- `EvaluatedModel`: the model under evaluation, and the embeddings that its tasks share.
- `TaskResult`: metrics, and all that they depend on.

Importing this package registers the tasks of its own.
"""

from slap.evaluation.eval_set import EvalClip as EvalClip
from slap.evaluation.eval_set import EvalSet as EvalSet
from slap.evaluation.evaluated_model import Embeddings as Embeddings
from slap.evaluation.evaluated_model import EvaluatedModel as EvaluatedModel
from slap.evaluation.tasks.base import Task as Task
from slap.evaluation.tasks.base import TaskResult as TaskResult
from slap.evaluation.tasks.captioning import CaptioningTask as CaptioningTask
from slap.evaluation.tasks.choice import Choice as Choice
from slap.evaluation.tasks.frames import FrameSimilarity as FrameSimilarity
from slap.evaluation.tasks.probes import LinearProbe as LinearProbe
from slap.evaluation.tasks.probes import NeighborProbe as NeighborProbe
from slap.evaluation.tasks.retrieval import Retrieval as Retrieval
from slap.evaluation.tasks.robust import Robust as Robust
from slap.evaluation.tasks.zero_shot import ZeroShot as ZeroShot
