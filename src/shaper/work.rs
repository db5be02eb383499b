//! The worker's side: reads questions from stdin, answers on stdout, until stdin ends. Runs nothing else, and knows no
//! config, network or secret.

use std::{
    io::{self, Read, Write},
    thread,
};

use super::{
    frame::{self, Answer, LENGTH_BYTES, Question, Setup, Stage},
    watch::{Watch, memory_max},
};
use crate::{
    message::{Headers, Message, Origin},
    shape::{Failed, Filter, Program, STACK_BYTES},
};

/// What a worker has compiled.
struct Programs {
    filter: Option<Filter>,
    transform: Option<Program>,
    max_payload_bytes: usize,
}

/// Works until nobody asks any more, on a stack that is as large as the one on which programs are checked.
///
/// # Errors
/// What is read is not what natshook writes, or nobody reads the answers.
pub fn work() -> io::Result<()> {
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(serve)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("it ended in a defect")))
}

fn serve() -> io::Result<()> {
    let (mut stdin, mut stdout) = (io::stdin().lock(), io::stdout().lock());
    let Some(setup) = read(&mut stdin)? else { return Ok(()) };
    let setup: Setup = serde_json::from_slice(&setup)?;
    let programs = match Programs::compile(&setup) {
        Ok(programs) => programs,
        Err(error) => return answer(&mut stdout, &Err(error.into())),
    };
    let watch = Watch::start(memory_max(setup.max_payload_bytes));
    answer(&mut stdout, &Ok(Answer::Ready))?;
    while let Some(question) = read(&mut stdin)? {
        let question: Question = serde_json::from_slice(&question)?;
        let Some(payload) = read(&mut stdin)? else { return Ok(()) };
        let answered = watch.over(|| programs.run(question, payload));
        answer(&mut stdout, &answered)?;
    }
    Ok(())
}

impl Programs {
    fn compile(setup: &Setup) -> Result<Self, String> {
        let filter = setup.filter.as_deref().map(Filter::new).transpose();
        let transform = setup.transform.as_deref().map(Program::new).transpose();
        Ok(Self {
            filter: filter.map_err(|misread| misread.to_string())?,
            transform: transform.map_err(|misread| misread.to_string())?,
            max_payload_bytes: setup.max_payload_bytes,
        })
    }

    fn run(&self, question: Question, payload: Vec<u8>) -> Result<Answer, Failed> {
        let Question { stage, subject, headers } = question;
        match (stage, &self.filter, &self.transform) {
            (Stage::Filter, Some(filter), _) => {
                let message = Message {
                    subject,
                    payload: payload.into(),
                    headers: Headers(headers),
                    // No filter asks for it.
                    origin: Origin::Passing { id: String::new(), reply: None },
                    published: std::time::SystemTime::UNIX_EPOCH,
                };
                Ok(if filter.wants(&message)? { Answer::Wanted } else { Answer::Unwanted })
            }
            (Stage::Transform, _, Some(transform)) => {
                let body = transform.run(&payload, &subject, &headers, self.max_payload_bytes)?;
                Ok(Answer::Body(body.into()))
            }
            (Stage::Filter | Stage::Transform, ..) => {
                Err("the worker is for something else".to_owned().into())
            }
        }
    }
}

fn read(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; LENGTH_BYTES];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = vec![0; frame::read_length(length)?];
    from.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

fn answer(to: &mut impl Write, answer: &Result<Answer, Failed>) -> io::Result<()> {
    let bytes = frame::answer_bytes(answer);
    to.write_all(&frame::length(&bytes)?)?;
    to.write_all(&bytes)?;
    to.flush()
}
