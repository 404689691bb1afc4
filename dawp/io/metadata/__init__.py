"""Metadata of audio files: tags, pictures, broadcast and marker chunks, channel layout.

Tags have the names of Vorbis comments in every format, pictures the form of FLAC's picture block. What only one family
of files can hold is copied as it is between files of that family: positions in samples stay valid, because a restored
file has the rate and the length of its recording.
"""
