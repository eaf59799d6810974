// The newest records, bounded. When there are too many, the oldest record of the lane with the most records goes first:
// so a busy lane does not push out a quiet one.

const MOST_RECORDS = 500;
const MOST_BYTES = 1024 * 1024;

export class Store {
  records = [];
  dropped = 0;
  bytes = 0;
  #lanes = new Map(); // label to { records, bytes }

  /** Adds a record in the order of time, and returns the records that had to go for it. */
  add(record) {
    const before = this.records.findLastIndex(({ time }) => time <= record.time);
    this.records.splice(before + 1, 0, record);
    this.#count(record, 1);
    const gone = [];
    while (this.records.length > MOST_RECORDS || this.bytes > MOST_BYTES) {
      gone.push(this.#drop(this.records.length > MOST_RECORDS ? 'records' : 'bytes'));
    }
    return gone;
  }

  #count({ label, bytes }, by) {
    const lane = this.#lanes.get(label) ?? { records: 0, bytes: 0 };
    this.#lanes.set(label, lane);
    lane.records += by;
    lane.bytes += by * bytes.length;
    this.bytes += by * bytes.length;
  }

  #drop(what) {
    const [label] = [...this.#lanes].reduce((most, lane) => lane[1][what] > most[1][what] ? lane : most);
    const [record] = this.records.splice(this.records.findIndex((one) => one.label === label), 1);
    this.#count(record, -1);
    this.dropped += 1;
    return record;
  }
}
