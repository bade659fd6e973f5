"""Judging a model by the field's protocols: tasks, data sets, prompts, figures with where they come from.

- `Task`: what a model is judged by; `@register("name")` on a class of this kind adds one for `slap evaluate`.
- `JudgedSet`, `JudgedClip`: the clips to judge on, with captions or labels, from `slap.datamodules.evaluate_data`.
- `Subject`: the model that is judged, and the embeddings that its tasks share.
- `TaskResult`: figures, and all that it takes to compare them with others'.

Importing this package registers the tasks of its own.
"""

from slap.judge.captioning import Captioning as Captioning
from slap.judge.judged_set import JudgedClip as JudgedClip
from slap.judge.judged_set import JudgedSet as JudgedSet
from slap.judge.probes import LinearProbe as LinearProbe
from slap.judge.probes import NeighbourProbe as NeighbourProbe
from slap.judge.retrieval import Retrieval as Retrieval
from slap.judge.subject import Features as Features
from slap.judge.subject import Subject as Subject
from slap.judge.task import Task as Task
from slap.judge.task import TaskResult as TaskResult
from slap.judge.zeroshot import ZeroShot as ZeroShot
