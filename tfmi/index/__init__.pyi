"""Public names of tfmi.index."""

from tfmi.index.base import InterestIndex as InterestIndex
from tfmi.index.build import build_index as build_index
from tfmi.index.exact import ExactIndex as ExactIndex
from tfmi.index.filtered_search import search_filtered as search_filtered
from tfmi.index.filters import ItemFilter as ItemFilter
from tfmi.index.merging import Candidates as Candidates
from tfmi.index.merging import merge_interests as merge_interests
from tfmi.index.partitioned import PartitionedIndex as PartitionedIndex
from tfmi.index.quotas import allot_interests as allot_interests
from tfmi.index.recall import measure_recall as measure_recall
from tfmi.index.reranking import RerankedItem as RerankedItem
from tfmi.index.reranking import rerank as rerank
from tfmi.index.scann import ScannIndex as ScannIndex
from tfmi.index.selection import select as select
from tfmi.index.sources import CandidateSource as CandidateSource
from tfmi.index.sources import candidate_source as candidate_source
from tfmi.index.widening import widen_search as widen_search
