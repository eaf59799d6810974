//! The processes of a run, and what happens to them.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::Settings;
use super::balancer::Balancer;
use super::dice::Dice;
use super::file::File;
use super::node::Node;
use super::redis::Redis;

/// The place where the messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// In the memory of the only node. They are lost with it.
    Memory,
    /// In a file of the only node.
    File,
    /// In Redis, which keeps them.
    Redis,
    /// In Redis, which restarts from an old snapshot.
    OldRedis,
}

impl Journal {
    pub fn of(name: &str) -> Result<Self, String> {
        match name {
            "memory" => Ok(Journal::Memory),
            "file" => Ok(Journal::File),
            "redis" => Ok(Journal::Redis),
            "old-redis" => Ok(Journal::OldRedis),
            _ => Err(format!("--journal: expected memory, file, redis or old-redis, not {name:?}")),
        }
    }
}

/// The nodes, and what they need.
pub struct Cast {
    journal: Journal,
    file: File,
    redis: Option<Redis>,
    nodes: Vec<Node>,
    balancer: Option<Balancer>,
    /// The number of times that the messages may have been lost.
    pub losses: usize,
}

impl Cast {
    pub fn start(settings: &Settings) -> io::Result<Self> {
        let redis = match settings.journal {
            Journal::Memory | Journal::File => None,
            journal => Some(Redis::start(journal == Journal::Redis)?),
        };
        let file = File::new(&settings.sync, settings.cut);
        let arguments = match (settings.journal, &redis) {
            (Journal::File, _) => file.arguments(),
            (_, Some(redis)) => vec!["--redis".to_owned(), format!("redis://127.0.0.1:{}", redis.port)],
            (_, None) => Vec::new(),
        };
        let start = |_| Node::start(settings.program.clone(), arguments.clone());
        let nodes: Vec<Node> = (0..settings.nodes).map(start).collect::<io::Result<_>>()?;
        let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
        let balancer = settings.balancer.then(|| Balancer::start(&addresses)).transpose()?;
        Ok(Cast { journal: settings.journal, file, redis, nodes, balancer, losses: 0 })
    }

    /// Whether an answered message can be lost.
    pub fn can_lose(&self) -> bool {
        match self.journal {
            Journal::Memory | Journal::OldRedis => true,
            Journal::File => self.file.can_lose(),
            Journal::Redis => false,
        }
    }

    /// Returns the addresses that clients connect to.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        match &self.balancer {
            Some(balancer) => vec![balancer.address],
            None => self.nodes.iter().map(|node| node.address).collect(),
        }
    }

    /// Kills a process this many times, and stops one now and then.
    pub fn disturb(&mut self, dice: &mut Dice, kills: usize) -> io::Result<()> {
        dice.pause(300);
        for _ in 0..kills {
            match &self.redis {
                Some(_) if dice.roll(3) == 0 => self.kill_redis(dice)?,
                _ => self.kill_node(dice)?,
            }
            dice.pause(500);
        }
        thread::sleep(Duration::from_millis(300));
        Ok(())
    }

    fn kill_node(&mut self, dice: &mut Dice) -> io::Result<()> {
        let node = dice.roll(self.nodes.len() as u64) as usize;
        let node = &mut self.nodes[node];
        if dice.roll(4) == 0 {
            node.signal("STOP")?;
            dice.pause(500);
            node.signal("CONT")?;
            dice.pause(100);
        }
        node.kill()?;
        dice.pause(50);
        if self.journal == Journal::File && self.file.can_lose() {
            self.file.cut(dice)?;
        }
        node.restart()?;
        self.losses += usize::from(self.can_lose() && self.redis.is_none());
        Ok(())
    }

    fn kill_redis(&mut self, dice: &mut Dice) -> io::Result<()> {
        let Some(redis) = &mut self.redis else { return Ok(()) };
        if dice.roll(4) == 0 {
            redis.signal("STOP")?;
            dice.pause(500);
            redis.signal("CONT")?;
            dice.pause(100);
        }
        if self.journal == Journal::OldRedis {
            if dice.roll(3) > 0 {
                redis.save();
            }
            dice.pause(200);
            self.losses += 1;
        }
        redis.kill()?;
        dice.pause(50);
        redis.restart()
    }
}
