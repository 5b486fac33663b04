//! What a reader of a key, or of all keys, must wait for.

use ferrokit_engine::CommitTicket;
use ferrokit_storage::CommitGate;

#[test]
fn a_ticket_covers_every_note_of_its_key() {
    let gate = CommitGate::with_stripes(4);
    gate.note(1 << 32, CommitTicket { os: 16, synced: 16 });
    gate.note(1 << 32, CommitTicket { os: 40, synced: 0 });
    gate.note(2 << 32, CommitTicket { os: 24, synced: 24 });
    assert_eq!(gate.ticket(1 << 32), CommitTicket { os: 40, synced: 16 });
    assert_eq!(gate.ticket(3 << 32), CommitTicket::NONE);
    assert_eq!(gate.ticket_all(), CommitTicket { os: 40, synced: 24 });
}

#[test]
fn any_number_of_stripes_serves() {
    for count in [0, 1, 3, usize::MAX] {
        let gate = CommitGate::with_stripes(count);
        gate.note(u64::MAX, CommitTicket { os: 8, synced: 0 });
        assert_eq!(gate.ticket(u64::MAX), CommitTicket { os: 8, synced: 0 });
    }
}
