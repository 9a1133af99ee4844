"""A plain SASRec in PyTorch: embeddings, causal blocks of ``nn.TransformerEncoderLayer``, a softmax over sampled items, Adam, one
pass over a history for all of its targets.

Runs in an environment of its own; see ``peer_environment.py``. It is the model of the recipe ``sasrec``. Width, blocks, heads, dropout,
negatives and targets in a step are those that ``sequence_training_speed.py`` hands over. The item table's gradient is dense, as
``nn.Embedding``'s is by default, or sparse with ``torch.optim.SparseAdam`` (``--sparse``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.contenders.timing import contender_arguments, print_result, stay_on_cores, time_rounds


def build(setting: dict[str, Any], sparse: bool) -> Any:
    """The model: item indices [B, L] to states [B, L, d] of unit length, all of them real, as the benchmark's histories are."""
    import torch  # type: ignore[import-not-found]
    from torch import nn
    from torch.nn import functional  # type: ignore[import-not-found]

    class SASRec(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width = setting["dimension"]
            self.items = nn.Embedding(setting["num_rows"], width, sparse=sparse)
            self.positions = nn.Parameter(torch.randn(setting["length"], width) * 0.02)
            self.dropout = nn.Dropout(setting["dropout"])
            block = {"dim_feedforward": setting["feed_forward"], "dropout": setting["dropout"], "activation": "gelu", "batch_first": True}
            self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(width, setting["heads"], **block) for _ in range(setting["blocks"]))
            self.norm = nn.LayerNorm(width)
            self.register_buffer("future", nn.Transformer.generate_square_subsequent_mask(setting["length"]))

        def forward(self, history: torch.Tensor) -> torch.Tensor:
            states = self.dropout(self.norm(self.items(history) + self.positions))
            for block in self.blocks:
                states = block(states, src_mask=self.future, is_causal=True)
            return functional.normalize(states, dim=-1)

    return SASRec()


def main() -> None:
    """Time rounds of training steps."""
    parser = contender_arguments(__doc__)
    parser.add_argument("--setting", required=True, type=json.loads, help="JSON object")
    parser.add_argument("--steps", type=int, default=8, help="training steps per round")
    parser.add_argument("--sparse", action="store_true", help="a sparse gradient of the item table")
    options = parser.parse_args()
    stay_on_cores(options.threads)

    import torch
    from torch.nn import functional

    torch.set_num_threads(options.threads or torch.get_num_threads())
    torch.manual_seed(0)
    setting = options.setting
    model = build(setting, options.sparse)
    dense = [weight for weight in model.parameters() if weight is not model.items.weight]
    optimizers = [torch.optim.Adam([*dense, *([] if options.sparse else [model.items.weight])], lr=1e-3)]
    if options.sparse:
        optimizers.append(torch.optim.SparseAdam([model.items.weight], lr=1e-3))
    histories = torch.randint(2, setting["num_rows"], (options.steps, setting["batch_size"], setting["length"] + 1))
    losses: list[float] = []

    def step(rows: torch.Tensor) -> float:
        history, targets = rows[:, :-1], rows[:, 1:].reshape(-1)
        queries = model(history).reshape(len(targets), -1) / setting["temperature"]
        sampled = torch.randint(2, setting["num_rows"], (setting["num_sampled"],)).unique()
        vectors = functional.normalize(model.items(torch.cat([targets, sampled])), dim=-1)
        positive = (queries * vectors[: len(targets)]).sum(-1)
        negative = queries @ vectors[len(targets) :].T
        negative = negative.masked_fill(targets[:, None] == sampled, -1e9)
        loss = functional.softplus(torch.logsumexp(negative, dim=1) - positive).mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return float(loss)

    timed = time_rounds(lambda: losses.append([step(rows) for rows in histories][-1]), options.rounds)
    work = options.steps * setting["batch_size"] * setting["length"]
    print_result({**timed, "work_per_round": work, "losses": losses, "torch": torch.__version__})


if __name__ == "__main__":
    main()
