"""Take noise out of recordings with a deep audio waveform prior; see ``python denoise.py --help``."""

from dawp.cli import main

if __name__ == "__main__":
    raise SystemExit(main("denoise"))
