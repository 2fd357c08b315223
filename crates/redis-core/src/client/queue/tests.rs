//! The queue by itself: whatever order replies come in, a client gets them in the order of its requests.

use proptest::prelude::*;
use redplane_merge::Parts;

use super::*;
use crate::client::muting::ReplyMode;

#[test]
fn early_replies_leave_nothing_behind() {
    let mut queue = ReplyQueue::default();
    let early = |round: u32| format!("${round:0>1000}\r\n").into_bytes();
    queue.expect(Slot::Waiting);
    queue.expect(Slot::Waiting);
    queue.finish(1, &early(0));
    let mut expected = Vec::new();
    for round in 1..3000 {
        // The next one is early before the last one has gone: some reply is always parked.
        queue.expect(Slot::Waiting);
        queue.expect(Slot::Waiting);
        queue.finish(3, &early(round));
        queue.finish(0, b"+late\r\n");
        expected.extend_from_slice(b"+late\r\n");
        expected.extend_from_slice(&early(round - 1));
        assert_eq!(queue.len(), 2);
        let parked = queue.parked.len();
        assert!(parked <= 2 * COMPACT, "{parked} bytes in round {round}");
    }
    assert_eq!(queue.out.range(0, expected.len()), Some(&expected[..]));
}

#[test]
fn shrinking_forgets_nobody_who_waits() {
    let mut queue = ReplyQueue::default();
    for _ in 0..100 {
        queue.expect(Slot::Waiting);
    }
    queue.finish(0, b"+OK\r\n");
    queue.shrink(&mut Buffers::default());
    assert_eq!(queue.len(), 99);
}

#[test]
fn parts_count_like_whole_replies() {
    let command = redplane_command::lookup(b"mget").unwrap();
    let mut queue = ReplyQueue::default();
    queue.expect(Slot::Waiting);
    let parts = Parts::new(command, 2, vec![0, 1]);
    queue.expect(Slot::Split(Box::new(Split::new(parts, 0))));
    assert!(queue.take_part(1, 1, Answer::Raw(&[b'x'; 1000])).is_none());
    assert_eq!(queue.backlog(), 1000);
    let large = Bytes::from(vec![b'y'; MAX_BACKLOG]);
    let whole = queue.take_part(1, 0, Answer::Shared(large));
    assert!(whole.is_some());
    assert_eq!(
        queue.backlog(),
        0,
        "whoever merges it puts the reply in its place"
    );
    queue.finish(1, b"*0\r\n");
    assert_eq!(queue.backlog(), 4);
}

/// What can happen to a queue.
#[derive(Clone, Debug)]
enum Step {
    Expect,
    Local(u8),
    /// The reply of one that waits, by its place among those that do; its length.
    Finish(usize, usize),
    FinishShared(usize, usize),
    Write(usize),
    Mode(ReplyMode),
    Shrink,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mode = prop_oneof![Just(ReplyMode::On), Just(ReplyMode::Off), Just(ReplyMode::Skip)];
    let step = prop_oneof![
        6 => Just(Step::Expect),
        2 => any::<u8>().prop_map(Step::Local),
        4 => (0..8usize, 0..200usize).prop_map(|(at, len)| Step::Finish(at, len)),
        1 => (0..8usize, 0..200usize).prop_map(|(at, len)| Step::FinishShared(at, len)),
        2 => (0..400usize).prop_map(Step::Write),
        1 => mode.prop_map(Step::Mode),
        1 => Just(Step::Shrink),
    ];
    prop::collection::vec(step, 0..120)
}

/// A request as the test sees it: the reply it must get, once it is known, and whether it is muted.
struct Request {
    reply: Option<Vec<u8>>,
    muted: bool,
}

struct Model {
    requests: Vec<Request>,
    mode: ReplyMode,
}

impl Model {
    fn mutes(&mut self) -> bool {
        match self.mode {
            ReplyMode::On => false,
            ReplyMode::Off => true,
            ReplyMode::Skip => {
                self.mode = ReplyMode::On;
                true
            }
        }
    }

    fn waiting(&self, at: usize) -> Option<usize> {
        let waiting = self.requests.iter().enumerate();
        let waiting: Vec<usize> = waiting
            .filter(|(_, own)| own.reply.is_none())
            .map(|(at, _)| at)
            .collect();
        waiting.get(at % waiting.len().max(1)).copied()
    }

    /// All that may be out: the replies before the first one that is missing.
    fn expected(&self) -> Vec<u8> {
        let known = self.requests.iter().take_while(|own| own.reply.is_some());
        let wanted = known.filter(|own| !own.muted);
        wanted
            .flat_map(|own| own.reply.clone().unwrap_or_default())
            .collect()
    }

    fn parked(&self) -> usize {
        let behind = self.requests.iter().skip_while(|own| own.reply.is_some());
        let wanted = behind.filter(|own| !own.muted);
        wanted.filter_map(|own| own.reply.as_ref()).map(Vec::len).sum()
    }
}

proptest! {
    /// Every reply goes out once, whole and in the order of the requests; the backlog is what waits, to the byte.
    #[test]
    fn replies_keep_the_order_of_requests(steps in steps()) {
        let mut queue = ReplyQueue::default();
        let mut buffers = Buffers::default();
        let mut model = Model { requests: Vec::new(), mode: ReplyMode::On };
        let (mut written, mut number) = (Vec::new(), 0_u8);
        for step in steps {
            number = number.wrapping_add(1);
            match step {
                Step::Expect => {
                    let muted = model.mutes();
                    let sequence = queue.expect(Slot::Waiting);
                    prop_assert_eq!(sequence as usize, sequence_of(&queue, &model));
                    model.requests.push(Request { reply: None, muted });
                }
                Step::Local(byte) => {
                    // One that is muted takes no place at all.
                    if !model.mutes() {
                        model.requests.push(Request { reply: Some(vec![byte]), muted: false });
                    }
                    queue.reply(|out| out.push(byte));
                }
                Step::Finish(at, len) | Step::FinishShared(at, len) => {
                    let Some(at) = model.waiting(at) else { continue };
                    let reply = vec![number; len];
                    let out = model.requests.iter().take_while(|own| own.reply.is_some()).count();
                    let offset = at - out;
                    prop_assert!(queue.waits_at(offset));
                    match step {
                        Step::Finish(..) => queue.finish(offset, &reply),
                        _ => queue.finish_shared(offset, Bytes::from(reply.clone())),
                    }
                    model.requests[at].reply = Some(reply);
                }
                Step::Write(count) => {
                    let slice = queue.out.next_slice();
                    let count = count.min(slice.len());
                    written.extend_from_slice(&slice[..count]);
                    queue.out.wrote_for_good(count);
                }
                Step::Mode(mode) => {
                    model.mode = mode;
                    queue.set_mode(mode);
                }
                Step::Shrink => queue.shrink(&mut buffers),
            }
            let expected = model.expected();
            prop_assert_eq!(queue.out.unwritten(), expected.len() - written.len());
            prop_assert_eq!(queue.backlog(), expected.len() - written.len() + model.parked());
            prop_assert_eq!(queue.open() as usize, model.requests.iter().filter(|own| own.reply.is_none()).count());
        }
        while queue.out.unwritten() > 0 {
            let slice = queue.out.next_slice().to_vec();
            queue.out.wrote_for_good(slice.len());
            written.extend(slice);
        }
        prop_assert_eq!(written, model.expected());
    }
}

/// The sequence that the last request must have: answered ones were counted as they left.
fn sequence_of(queue: &ReplyQueue, model: &Model) -> usize {
    let out = model
        .requests
        .iter()
        .take_while(|own| own.reply.is_some())
        .count();
    queue.head() as usize + (model.requests.len() - out)
}
