"""Addresses and pipelines as people type them, each with the password `S3cret` somewhere in it."""

from __future__ import annotations

SECRET = "S3cret"
HOST = "127.0.0.1"

URLS = (
    "rtsp://me:S3cret@{host}/live",
    "rtsp://:S3cret@{host}/live",
    "rtsp://S3cret@{host}/live",
    "RTSP://me:S3cret@{host}/live",
    "rtsp://me:p#S3cret@{host}/live",
    "rtsp://me:S3cret#1@{host}/live",
    "rtsp://me:p?S3cret@{host}/live",
    "rtsp://me:S3cret?x@{host}/live",
    "rtsp://me:p/S3cret@{host}/live",
    "rtsp://me:S3cret/1@{host}/live",
    "rtsp://me:12/S3cret@{host}/live",
    "rtsp://me/S3cret@{host}/live",
    "rtsp://me:p@S3cret@{host}/live",
    "rtsp://me:S3cret@1@{host}/live",
    "rtsp://me:p@S3cret/x@{host}/live",
    "rtsp://me:S3cret/p@x#y?z@{host}/live",
    "rtsp://me:p S3cret@{host}/live",
    "rtsp://me:S3cret word@{host}/live",
    "rtsp://me:p\"S3cret'@{host}/live",
    "rtsp://me:p[S3cret]@{host}/live",
    "rtsp://me:p%23S3cret@{host}/live",
    "rtsp://{host}/user=admin_password=S3cret_channel=1_stream=0.sdp",
    "rtsp://{host}/user=admin&password=S3cret&channel=1",
    "rtsp://{host}/live;pwd=S3cret",
    "rtsp://{host};pwd=S3cret/live",
    "rtsp://{host}/live?user=me&pwd=S3cret",
    "rtsp://{host}?S3cret",
    "rtsp://{host}/live#S3cret",
    "rtsp://{host}/live?mail=me@S3cret",
    "rtsp://{host}/live?pwd=p@S3cret/x",
    "rtsp://{host}/admin:S3cret/live",
    "rtsp://{host}/user/admin/password/S3cret/live",
    "rtsp://{host}/pw-S3cret,1/live",
    "rtsp://{host}/live/S3cret%20word",
    "rtsp://{host}/token_S3cret/live",
    "rtsp://me:S3cret",
    "rtsp://me:S3cret@",
    "http://{host}/video.cgi?loginuse=me&loginpas=S3cret",
    "https://me:S3cret@{host}/video",
    "https://me:S3cret/1@{host}/video",
    "rtsps://me:S3cret?1@{host}/live",
    "http://me:S3cret#1@{host}/live",
    "srt://{host}?passphrase=S3cret",
    "rtmp://{host}/live/S3cret",
    "ftp://me:S3cret@{host}/clip.mp4",
    "udp://me:S3cret@{host}",
)
"""With a scheme, so that they are addresses; `{host}` is host and port."""

PIPELINES = (
    "rtspsrc location=rtsp://{host}/x user-id=me user-pw=S3cret ! decodebin ! appsink",
    'rtspsrc location=rtsp://{host}/x user-id="S3cret me" user-pw="p S3cret w" ! decodebin ! appsink',
    "rtspsrc location=rtsp://me:S3cret@{host}/x ! decodebin ! appsink",
    "uridecodebin uri=http://{host}/x?pwd=S3cret ! appsink",
    "srtsrc uri=srt://{host} passphrase=S3cret ! decodebin ! appsink",
    "rtsp://me:S3cret@{host}/x ! decodebin ! appsink",
    "location=rtsp://me:S3cret@{host}/x ! appsink",
    "souphttpsrc location=http://{host}/x user-id=me user-pw=S3cret ! jpegdec ! appsink",
    'souphttpsrc extra-headers="a,Authorization=(string)\\"Basic S3cret\\"" ! jpegdec ! appsink',
)

SLIPS = (
    "rtsp:/me:S3cret@{host}/live",
    "rtsp:me:S3cret@{host}/live",
    "//me:S3cret@{host}/live",
    "me:S3cret@{host}/live",
    "me:p/S3cret@{host}/live",
    "{host}/user=admin_password=S3cret",
    "rtspsrc location=rtsp://{host}/x user-pw=S3cret",
    "rtspsrc location=rtsp://me:S3cret@{host}/x!decodebin!appsink",
)
"""What is neither, but was meant to be."""


def shapes(host: str = f"{HOST}:9") -> list[str]:
    """All of them, at `host`; nothing listens at port 9."""
    return [shape.replace("{host}", host) for shape in (*URLS, *PIPELINES, *SLIPS)]
