"""Public names of tfmi."""

from tfmi import index as index
from tfmi import layers as layers
from tfmi import losses as losses
from tfmi import metrics as metrics
from tfmi.api.dataset import Dataset as Dataset
from tfmi.api.loading import load as load
from tfmi.api.ranker import Ranker as Ranker
from tfmi.api.recommender import Recommender as Recommender
from tfmi.api.tag_model import TagModel as TagModel
from tfmi.config.schema import RunConfig as RunConfig
from tfmi.core.errors import ConfigError as ConfigError
from tfmi.core.errors import DataError as DataError
from tfmi.core.errors import ExportError as ExportError
from tfmi.core.errors import IndexBuildError as IndexBuildError
from tfmi.core.errors import TfmiError as TfmiError
from tfmi.core.errors import TrainingError as TrainingError
from tfmi.data.loading import load_dataset as load_dataset
from tfmi.export import export_savedmodel as export_savedmodel
from tfmi.index.reranking import rerank as rerank
from tfmi.models.retrieval.build_retriever import build_model as build_model
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval as InterestRetrieval
from tfmi.models.systems import SYSTEMS as SYSTEMS
from tfmi.models.systems import load_config as load_config

__version__: str
