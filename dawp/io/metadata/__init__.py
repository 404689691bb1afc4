"""Metadata of audio files: tags, pictures, broadcast and marker chunks, channel layout.

Tags use the names of Vorbis comments, and pictures the FLAC picture block, for all formats. Metadata that only one
family of formats can hold are copied unchanged between files of that family. Positions in samples stay valid, because a
restored file has the sample rate and the length of its recording.
"""
