"""Take reverberation out of recordings with a deep audio waveform prior; see ``python dereverb.py --help``."""

if __name__ == "__main__":
    try:
        from dawp.cli import main

        code = main("dereverb")
    except KeyboardInterrupt:  # while torch was still being loaded
        code = 130
    raise SystemExit(code)
