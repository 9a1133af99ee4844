"""Public names of tfmi.metrics."""

from tfmi.evaluation.binary_metrics import GroupedAuc as GroupedAuc
from tfmi.evaluation.binary_metrics import ReliabilityBins as ReliabilityBins
from tfmi.evaluation.binary_metrics import auc as auc
from tfmi.evaluation.binary_metrics import click_metrics as click_metrics
from tfmi.evaluation.binary_metrics import expected_calibration_error as expected_calibration_error
from tfmi.evaluation.binary_metrics import grouped_auc as grouped_auc
from tfmi.evaluation.binary_metrics import log_loss as log_loss
from tfmi.evaluation.binary_metrics import reliability_bins as reliability_bins
from tfmi.evaluation.callback import FullCatalogueEvaluation as FullCatalogueEvaluation
from tfmi.evaluation.click_prediction import ImpressionEvaluator as ImpressionEvaluator
from tfmi.evaluation.full_catalogue import CatalogueEvaluator as CatalogueEvaluator
from tfmi.evaluation.full_catalogue import RecommendedItems as RecommendedItems
from tfmi.evaluation.metrics import catalogue_coverage as catalogue_coverage
from tfmi.evaluation.metrics import category_coverage as category_coverage
from tfmi.evaluation.metrics import category_diversity as category_diversity
from tfmi.evaluation.metrics import per_user_metrics as per_user_metrics
from tfmi.evaluation.metrics import ranking_metrics as ranking_metrics
from tfmi.evaluation.metrics import session_metrics as session_metrics
from tfmi.evaluation.tag_evaluation import TagEvaluator as TagEvaluator
