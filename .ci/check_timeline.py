"""Checks a timeline in Perfetto's format with the message definitions that Perfetto publishes.

Fails on what its importer counts as an error: bytes that are no field, events on tracks that nobody
described, times that run backwards, ends without begins, slices that stay open, counters without a
value.
"""

import sys
from collections import Counter

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as perfetto


def unknown_fields(message, path="Trace"):
    """Fields that the definitions do not know, anywhere below a message."""
    known = {field.number for field, _ in message.ListFields()}
    again = type(message)()
    again.ParseFromString(message.SerializeToString())
    from google.protobuf.unknown_fields import UnknownFieldSet

    for field in UnknownFieldSet(message):
        yield f"{path}: field {field.field_number} (known: {sorted(known)})"
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            values = [value] if hasattr(value, "ListFields") else value
            for one in values:
                yield from unknown_fields(one, f"{path}.{field.name}")


def main(path):
    trace = perfetto.Trace()
    with open(path, "rb") as file:
        size = trace.ParseFromString(file.read())
    faults = list(unknown_fields(trace))
    event_type = perfetto.TrackEvent
    tracks, open_slices, count, before = {}, Counter(), Counter(), 0
    for packet in trace.packet:
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            if track.uuid in tracks:
                faults.append(f"track {track.uuid} is described twice")
            if track.HasField("parent_uuid") and track.parent_uuid not in tracks:
                faults.append(f"track {track.name} has an unknown parent")
            if not track.name:
                faults.append(f"track {track.uuid} has no name")
            tracks[track.uuid] = track
            continue
        event = packet.track_event
        if not packet.trusted_packet_sequence_id:
            faults.append("a packet is of no sequence")
        if packet.timestamp < before:
            faults.append(f"time runs backwards at {packet.timestamp}")
        before = packet.timestamp
        if event.track_uuid not in tracks:
            faults.append(f"an event is on the unknown track {event.track_uuid}")
        count[event.type] += 1
        if event.type == event_type.TYPE_SLICE_BEGIN:
            open_slices[event.track_uuid] += 1
            if not event.name:
                faults.append("a slice has no name")
        elif event.type == event_type.TYPE_SLICE_END:
            open_slices[event.track_uuid] -= 1
            if open_slices[event.track_uuid] < 0:
                faults.append(f"an end without a begin on {tracks[event.track_uuid].name}")
        elif event.type == event_type.TYPE_COUNTER:
            is_counter = tracks[event.track_uuid].HasField("counter")
            if not (is_counter and event.HasField("double_counter_value")):
                faults.append("a counter without a track of its kind, or without a value")
        elif event.type != event_type.TYPE_INSTANT:
            faults.append(f"an event of type {event.type}")
    faults += [f"{n} slices stay open on {tracks[t].name}" for t, n in open_slices.items() if n]
    for kind in (event_type.TYPE_SLICE_BEGIN, event_type.TYPE_COUNTER):
        if not count[kind]:
            faults.append(f"no event of type {kind}")
    names = sorted(track.name for track in tracks.values() if not track.HasField("counter"))
    print(f"{size} bytes, {len(trace.packet)} packets, {count[1]} slices, {count[4]} counter values")
    print("tracks:", ", ".join(names))
    for fault in faults[:20]:
        print("fault:", fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
