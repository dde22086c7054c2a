#!/bin/sh
# GStreamer's dashsink writes the milliseconds of a duration without their zeros: 2.050 s is "2.50S" in the MPD, 1.005 s is "1.5S".
#
# XML Schema part 2 section 3.2.6: the seconds of a duration are a decimal number, so that "2.50" is 2.5. The element writes the whole seconds, a point
# and the number of milliseconds, for all durations of the MPD:
#        min-buffer-time=2050              minBufferTime="P0Y0M0DT0H0M2.50S"               2.5 s
#        minimum-update-period=1005        minimumUpdatePeriod="P0Y0M0DT0H0M1.5S"          1.5 s
#        253 pictures, 25 a second         Period@duration="P0Y0M0DT0H0M10.80S"            10.8 s, more than there is
#        min-buffer-time=2500              minBufferTime="P0Y0M0DT0H0M2.500S"              2.5 s
# One would expect a time that is right to the millisecond or rounded, not one that is up to 0.9 s longer wherever less than 100 ms stand behind
# the second. @codecs is "avc1" without the profile and level that RFC 6381 section 3.3 asks for. Seen with GStreamer 1.22.0 (Debian 12).
#
# A player waits for the end of such a film behind its last segment, and the Periods of a channel that are added up drift away from its segments.
# Who takes in such an MPD should look at the segments for their length; tenths of a second, as most durations in tests are, are right.
set -eu
dir=$(mktemp -d)
pipeline=
trap 'test -z "$pipeline" || kill -9 "$pipeline" 2>/dev/null || :; rm -rf "$dir"' EXIT
cd "$dir"
mkdir -p lists/partial cache/archives/partial root
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
plugins="gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install gstreamer1.0-tools libgstreamer1.0-0 $plugins >apt.log 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in cache/archives/*.deb; do dpkg -x "$package" root; done
lib="$dir/root/usr/lib/$(uname -m)-linux-gnu"
export PATH="$dir/root/usr/bin:$PATH" LD_LIBRARY_PATH="$lib" GST_PLUGIN_SYSTEM_PATH="$lib/gstreamer-1.0" GST_REGISTRY="$dir/registry" GST_REGISTRY_FORK=no
gst-launch-1.0 --version | head -n 1
# write NAME PROPERTIES: runs until the first MPD is there, at most 30 s
write() {
  name=$1
  shift
  gst-launch-1.0 -q dashsink name=sink mpd-filename="$name" mpd-root-path="$dir" target-duration=2 "$@" \
    videotestsrc is-live=true ! video/x-raw,framerate=25/1,width=160,height=90 ! x264enc key-int-max=50 bframes=0 tune=zerolatency ! \
    h264parse ! sink.video_0 >gst.log 2>&1 &
  pipeline=$!
  seconds=0
  until grep -q '</MPD>' "$name" 2>/dev/null || [ $((seconds += 1)) -gt 30 ]; do sleep 1; done
  kill -9 "$pipeline"
  wait "$pipeline" 2>/dev/null || :
  pipeline=
  cat "$name"
  echo
}
write zeros.mpd min-buffer-time=2050 minimum-update-period=1005 dynamic=true
write none.mpd min-buffer-time=2500 minimum-update-period=1000 dynamic=true
grep -q 'minBufferTime="P0Y0M0DT0H0M2.50S"' zeros.mpd
grep -q 'minimumUpdatePeriod="P0Y0M0DT0H0M1.5S"' zeros.mpd
grep -q 'minBufferTime="P0Y0M0DT0H0M2.500S"' none.mpd
grep -q 'minimumUpdatePeriod="P0Y0M0DT0H0M1.0S"' none.mpd
grep -q 'codecs="avc1"' zeros.mpd
