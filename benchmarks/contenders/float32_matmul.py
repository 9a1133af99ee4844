"""The machine's float32 rate: floating-point operations per second of one large ``tf.matmul``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.contenders.timing import contender_arguments, print_result, stay_on_cores, time_rounds

PRODUCTS_PER_ROUND = 10


def main() -> None:
    """Time products of two square matrices."""
    parser = contender_arguments(__doc__)
    parser.add_argument("--size", type=int, default=2048, help="rows and columns of both factors")
    options = parser.parse_args()
    stay_on_cores(options.threads)

    import tensorflow as tf

    from benchmarks.common import limit_threads

    limit_threads(options.threads)
    first, second = (tf.random.stateless_normal([options.size, options.size], seed=[seed, 0]) for seed in (1, 2))
    multiply = tf.function(lambda: tf.matmul(first, second), autograph=False)

    def run_round() -> None:
        for _ in range(PRODUCTS_PER_ROUND):
            multiply().numpy()

    # A product's inner dimension gives as many multiplications and additions for each of size x size results.
    operations = PRODUCTS_PER_ROUND * 2 * options.size**3
    print_result({**time_rounds(run_round, options.rounds), "work_per_round": operations})


if __name__ == "__main__":
    main()
