"""`grouped_attention` as compiled code calls it: outside of the graph, since its plan depends on the batch.

A file by itself, imported while a graph is made: saying so to the compiler imports the compiler, for which the use of a
trained model should not wait.
"""

import torch

from slap.nn import attention

grouped_attention = torch.compiler.disable(attention.grouped_attention)
