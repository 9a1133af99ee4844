"""Apache Spark before and after training: from a log on many files to training's shards, and answers for everybody.

Nothing else of this package imports this one, or pyspark (the extra ``spark``).
"""
