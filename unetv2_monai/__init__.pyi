# SPDX-License-Identifier: Apache-2.0
# The names of the package, and where each is defined: __init__.py reads this file too.

from .bfloat16 import fast_muon as fast_muon
from .bundle.disk_cache import DiskCacheDataset as DiskCacheDataset
from .bundle.prepare import prepare as prepare
from .bundle.run_folder import start_run as start_run
from .core.dicom_seg import SegFiles as SegFiles
from .core.errors import InputError as InputError
from .core.errors import concise_errors as concise_errors
from .core.files import existing_file as existing_file
from .core.images import to_rgb as to_rgb
from .core.masks import to_mask as to_mask
from .core.memory import keep_memory as keep_memory
from .core.overlaps import overlap_table as overlap_table
from .core.places import bundle_dir as bundle_dir
from .data import CropLabeld as CropLabeld
from .data import LabelWriter as LabelWriter
from .data import MultiScaleBatch as MultiScaleBatch
from .data import OnImageGridd as OnImageGridd
from .data import PictureReader as PictureReader
from .data import RandLesionFreed as RandLesionFreed
from .data import VolumeReader as VolumeReader
from .data import endoscope_view as endoscope_view
from .data import list_images as list_images
from .data import load_datalist as load_datalist
from .data import soft_items as soft_items
from .handlers.agreement_table import AgreementTable as AgreementTable
from .handlers.calibration import Calibration as Calibration
from .handlers.checkpoints import AtomicCheckpointSaver as AtomicCheckpointSaver
from .handlers.network import BroadcastBuffers as BroadcastBuffers
from .handlers.network import ClipGradients as ClipGradients
from .handlers.network import MovingAverage as MovingAverage
from .handlers.runs import TrainingRun as TrainingRun
from .handlers.score_table import ScoreTable as ScoreTable
from .inferers import Ensemble as Ensemble
from .inferers import FlipInferer as FlipInferer
from .inferers import FunctionNetwork as FunctionNetwork
from .inferers import OpenVINONetwork as OpenVINONetwork
from .inferers import PlainInferer as PlainInferer
from .inferers import SlabInferer as SlabInferer
from .losses import OverlapLoss as OverlapLoss
from .losses import SoftDiceCELoss as SoftDiceCELoss
from .losses import StructureLoss as StructureLoss
from .masked import ClearIgnoredd as ClearIgnoredd
from .masked import ignoring as ignoring
from .metrics import agreement as agreement
from .networks import SDI as SDI
from .networks import UNetV2 as UNetV2
from .networks import load_members as load_members
from .networks import load_weights as load_weights
from .postprocessing import HysteresisThresholdd as HysteresisThresholdd
from .postprocessing import MaskWriter as MaskWriter
from .postprocessing import SaveLesionsd as SaveLesionsd
from .released import convert_released_state_dict as convert_released_state_dict

__version__: str
