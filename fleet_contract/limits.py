"""Every bound on outside input, named, with its unit. Nothing else in the code may hold such a number."""

KIB = 1024
MIB = 1024 * KIB

MAX_DEVICE_ID_CHARS = 64
MAX_NAME_CHARS = 64
MAX_PATH_CHARS = 256
"""Room for targets/bundles/<sha256>.<task>-<version>.bundle with the longest names."""

MAX_MESSAGE_BYTES = 64 * KIB
"""One MQTT payload, blocks included. A sample that does not fit is dropped by the device and counted."""
MAX_MQTT_PACKET_BYTES = MAX_MESSAGE_BYTES + KIB
"""A payload, its topic and the packet's header."""
MAX_BATCH_RECORDS = 1_000
MAX_BATCH_DATA_BYTES = 1 * MIB
"""Of the records of one batch, decompressed."""
MAX_STRIDE_COUNT = 1 << 20
"""One record in so many may be left of a thinned batch."""
MAX_COUNT = 2**53
"""Of sequence numbers, counters and totals: whole in a float64 and in every database."""
MAX_RECORD_BYTES = 48 * KIB
MAX_EVENT_DETAIL_CHARS = 2_000
MAX_SAMPLE_BYTES = 44 * KIB

MAX_ORDER_BYTES = 16 * KIB
MAX_ORDER_LIFETIME_S = 90 * 24 * 3600
MAX_CLOCK_SKEW_S = 300

MAX_BUNDLE_BYTES = 2 * 1024 * MIB - 1
MAX_BUNDLE_ENTRIES = 64
MAX_MANIFEST_BYTES = 4 * MIB
MAX_KNOWN_ANSWERS_BYTES = 16 * MIB
MAX_REFERENCE_BYTES = 8 * MIB
MAX_CLASSES = 10_000
MAX_INPUT_VALUES = 64 * MIB
"""Elements of one model input, all axes multiplied."""
MAX_TENSOR_RANK = 8
MAX_TENSORS_COUNT = 64
"""Inputs of one graph, or outputs."""
MAX_TENSOR_NAME_CHARS = 256
MAX_BATCH_BYTES = 256 * MIB
"""Tensors of one request to a model and of its answer: what supervisor and worker share at most."""
MAX_CONSTANT_VALUES = 4_096
MAX_WINDOW_VALUES = 4 * MIB
"""Samples times columns."""
MAX_BOXES_COUNT = 1_000
MAX_CANDIDATE_BOXES_COUNT = 50_000
"""Above a detector's threshold in one picture, before suppression."""
MAX_TOLD_BOXES_COUNT = 100
"""In one record; a caller on the device gets all."""
MAX_QUEUED_RESULTS_COUNT = 100_000
"""That a sink which is slow may hold back."""
MAX_ROTATED_FILES_COUNT = 1_000
MIN_ROTATED_FILE_BYTES = 4 * KIB
MAX_SCALE = 1e9
"""Of pixels and logits."""

MAX_LATENCY_S = 60
"""That a model may claim for one input: a worker that hangs is waited for so long, and no longer."""
MAX_MODEL_DEPTH_COUNT = 16
"""Graphs within graphs (If, Loop, Scan) of one model."""
MAX_MODEL_FIELDS_COUNT = 2_000_000
"""Protobuf fields of one model file, weights counting one a tensor."""

MIN_BLOCK_BYTES = 4 * KIB
MAX_BLOCK_BYTES = 32 * KIB
"""At least one fits in a packet."""
MAX_BLOCKS_PER_REQUEST = 32
"""Of one that is answered one to one: what is in flight to a device at once."""
MAX_PACKET_BYTES = 60 * KIB
"""Of blocks in one packet, before compression: it fits in a message even when nothing can be compressed."""
MAX_BLOCKS_PER_PACKET = MAX_PACKET_BYTES // MIN_BLOCK_BYTES
CREDIT_PACKETS = 6
"""A device in a shared pass says how far it is after so many packets (at most 360 KiB)."""
MAX_AHEAD_PACKETS = 2 * CREDIT_PACKETS
"""What is on its way to a device in a pass; acknowledgements of records come behind it."""
MAX_URL_CHARS = 2_000
MAX_DELTA_BYTES = 512 * MIB
MAX_DELTAS_PER_RELEASE = 8
MAX_DELTA_OPERATIONS = 65_536
"""A few bytes can hold millions that each copy one byte."""
MAX_DELTA_MEMORY_BYTES = 4 * MIB
"""What its decompressor may set aside."""
MAX_METADATA_BYTES = 5 * MIB
"""Of targets and of every role below it."""
MAX_ROOT_METADATA_BYTES = 512 * KIB
MAX_TIMESTAMP_METADATA_BYTES = 16 * KIB
MAX_SNAPSHOT_METADATA_BYTES = 2 * MIB
MAX_TRUST_UPLOAD_BYTES = 16 * MIB
"""Of root, targets and releases metadata that are installed together."""
MAX_TRUST_UPLOAD_ENTRIES = 300
MAX_ROLE_KEYS_COUNT = 16
MAX_ONLINE_KEYS_BYTES = 4 * KIB
MAX_KEY_FILE_BYTES = 16 * KIB
MIN_PASSPHRASE_CHARS = 12
MAX_PASSPHRASE_CHARS = 1_000

MAX_SKETCH_FEATURES = 1_024
MAX_SKETCH_EDGE = 1e30
"""So that the distance of any float32 from an edge is a float32."""
MAX_SKETCH_BINS = 256
MAX_CONDITIONS = 32

MAX_IMAGE_BYTES = 16 * MIB
MAX_IMAGE_PIXELS = 50_000_000
"""OpenCV takes up to 12 bytes for each: 600 MB."""
MAX_CSV_LINE_CHARS = 1_000_000
MAX_CSV_COLUMNS = 4_096
MAX_PUSHED_ROWS = 10_000
"""In one message or request."""
MAX_QUEUED_INPUTS_COUNT = 65_536
MAX_LABEL_CHARS = 1_000
MAX_MEASUREMENT_WORD_CHARS = 200
"""Of a variant, a backend, or a verdict on them."""
MAX_DATASET_BYTES = 4 * 1024 * MIB
"""Of all inputs of a task together, once decoded: training holds them in memory, four bytes a value."""
MAX_TABLE_SCALE = 1e18
"""Of a number in a table that is learnt from: its square is a float32."""
MAX_RECORDING_BYTES = 1024 * MIB
MAX_PROGRAM_ENTRY_BYTES = 64 * MIB
"""Of what stands beside the weights in the archive of an exported program."""
MAX_IMPORT_RECORD_BYTES = 1 * MIB
"""Of the file beside a model that says where it is from."""

MAX_INGEST_WORKERS_COUNT = 16
"""That a broker's ACL has names for."""
MAX_DEVICE_EPOCHS_COUNT = 1_000
"""Each is an outbox made anew; who begins more is set apart."""
MAX_CSR_BYTES = 8 * KIB
MAX_TOKEN_CHARS = 512
MAX_TOKEN_LIFETIME_S = 30 * 24 * 3600
MAX_JSON_BODY_BYTES = 1 * MIB
MAX_LABELS_PER_REQUEST = 1_000
MAX_PAGE_ROWS = 1_000
MAX_EXPORT_ROWS = 20_000_000
MAX_QUANTILES_COUNT = 20
MAX_QUERY_CHARS = 100_000
"""Of SQL that a person writes."""
MAX_QUERY_TABLE_ROWS = 1_000_000
"""Of one of the database's tables, the newest, that such SQL sees."""
MAX_KEPT_TRACES_COUNT = 1_000
MAX_TASK_FILE_BYTES = 256 * KIB

MAX_TOKEN_FILE_BYTES = 64 * KIB
MAX_HTTP_HEAD_BYTES = 16 * KIB
"""Of a request to the agent, like those below."""
MAX_HTTP_FIELDS_COUNT = 64
MAX_HTTP_LINE_BYTES = 1 * KIB
"""Of a chunk's size, or of a field behind the last chunk."""
MAX_HTTP_BODY_BYTES = 64 * MIB
MAX_HTTP_JSON_BYTES = 4 * MIB
"""Of tensors as JSON, which grow sixteenfold when they are read; binary ones may fill the body."""
MAX_REQUEST_ID_CHARS = 128
"""A caller's name for a request; one with a longer name is recorded under another."""
MAX_UNRECORDED_REQUESTS_COUNT = 4_096
"""Answered requests that wait to be recorded."""
MAX_UNRECORDED_BYTES = 16 * MIB
"""Of their tensors."""
MAX_SIDE_BY_SIDE_JSON_BYTES = 256 * KIB
"""Of a request with its tensors as JSON; larger ones are answered one at a time."""
MAX_GRPC_MESSAGE_BYTES = 16 * MIB
"""Eight are read at once; larger tensors go over HTTP."""
MAX_DEVICE_FILE_BYTES = 256 * KIB

MAX_SCENARIO_FILE_BYTES = 64 * KIB
MAX_SCENARIO_S = 7 * 24 * 3600
MAX_DISTURBANCES_COUNT = 256
"""Of one scenario of a virtual fleet."""
MAX_VIRTUAL_DEVICES_COUNT = 100_000

MAX_UPLINK_WAIT_S = 24 * 3600
"""Of a device's own settings: a heartbeat, a patience, a spread."""
MAX_IN_FLIGHT_COUNT = 1_000
"""Unacknowledged messages of one device."""
MIN_UPLINK_RATE_BYTES_PER_S = 256
"""Below that a status message alone would take seconds."""
MAX_QUIET_WINDOWS_COUNT = 16
MAX_KEEPALIVE_S = 120
"""Longer silences cost a connection its place at a NAT, and hide a dead one."""
