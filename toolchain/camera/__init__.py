"""From a camera, a clip, a stream or a folder of pictures to named answers about the present."""
