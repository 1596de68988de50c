struct Server;

impl Server {
    #[leakfree::main]
    async fn run(&self) {}
}

fn main() {}
