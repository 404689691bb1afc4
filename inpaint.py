"""Fill gaps in recordings with a deep audio waveform prior; see ``python inpaint.py --help``."""

if __name__ == "__main__":
    try:
        from dawp.cli import main

        code = main("inpaint")
    except KeyboardInterrupt:  # while torch was still being loaded
        code = 130
    raise SystemExit(code)
