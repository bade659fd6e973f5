"""A slow stand-in on the CPU for the kernels of variable-length FlashAttention, so that what surrounds them on a GPU is
tested without one: the same operators, traced by the same rules.

N query rows, M key rows, H heads, E width of a head.
"""

import torch

from slap.nn import attention


def use(monkeypatch):
    """Have `slap.nn.attention` call the operators, and these compute on the CPU, until the test ends."""
    from torch.nn.attention import varlen  # noqa: F401 - it defines the operators

    if not registered:
        torch.library.register_kernel("torch_attn::_varlen_attn", "cpu", forward)
        torch.library.register_kernel("torch_attn::_varlen_attn_backward", "cpu", backward)
        registered.append(True)
    monkeypatch.setattr(attention, "flashes", lambda q: True)


registered: list[bool] = []


def weights(q, k, bounds, causal, scale, window):
    """By item: its rows of `q`, its rows of `k`, the scale and the (H, n, m) probabilities."""
    q_bounds, k_bounds, max_q, max_k = bounds
    assert max(q_bounds.diff()) <= max_q
    assert max(k_bounds.diff()) <= max_k
    assert int(q_bounds[-1]) == len(q), "rows outside of all items would hold whatever was in memory"
    left, right = (reach if reach >= 0 else max(max_q, max_k) for reach in window)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    for i in range(len(q_bounds) - 1):
        rows, keys = slice(*q_bounds[i : i + 2].tolist()), slice(*k_bounds[i : i + 2].tolist())
        scores = torch.einsum("nhe,mhe->hnm", q[rows], k[keys]) * scale
        distance = torch.arange(scores.shape[2]) - torch.arange(scores.shape[1])[:, None]
        seen = (distance <= (0 if causal else right)) & (distance >= -left)
        yield rows, keys, scale, scores.masked_fill(~seen, -torch.inf).softmax(-1)


def forward(q, k, v, q_bounds, k_bounds, max_q, max_k, is_causal=False, scale=None, window_size=None):
    out, bounds = torch.empty_like(q), (q_bounds, k_bounds, max_q, max_k)
    for rows, keys, _, p in weights(q, k, bounds, is_causal, scale, window_size):
        out[rows] = torch.einsum("hnm,mhe->nhe", p, v[keys])
    return out, q.new_zeros(q.shape[1], q.shape[0], dtype=torch.float), torch.zeros(2, dtype=torch.uint64)


def backward(
    grad, q, k, v, out, lse, q_bounds, k_bounds, max_q, max_k, is_causal, rng_state, scale=None, window_size=None
):
    dq, dk, dv, bounds = *map(torch.empty_like, (q, k, v)), (q_bounds, k_bounds, max_q, max_k)
    for rows, keys, factor, p in weights(q, k, bounds, is_causal, scale, window_size):
        dv[keys] = torch.einsum("hnm,nhe->mhe", p, grad[rows])
        dp = torch.einsum("nhe,mhe->hnm", grad[rows], v[keys])
        ds = p * (dp - (grad[rows] * out[rows]).sum(-1).T[:, :, None]) * factor
        dq[rows], dk[keys] = torch.einsum("hnm,mhe->nhe", ds, k[keys]), torch.einsum("hnm,nhe->mhe", ds, q[rows])
    return dq, dk, dv
