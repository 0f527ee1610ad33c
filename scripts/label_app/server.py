# SPDX-License-Identifier: Apache-2.0
"""The application that scripts/label_server.py starts: MONAI Label and the page, behind the guard."""

from __future__ import annotations

import os

from guard import Guard, Settings
from monailabel.app import app as monai_label
from monailabel.interfaces.utils.app import app_instance
from page_calls import page

app = Guard(
    page,
    monai_label,
    app_instance,
    Settings(
        token=os.environ.pop("UNETV2_LABEL_TOKEN"),  # not for the processes that this one starts
        host=os.environ["UNETV2_LABEL_HOST"],
        max_upload=int(os.environ["UNETV2_LABEL_MAX_UPLOAD"]),
    ),
)
