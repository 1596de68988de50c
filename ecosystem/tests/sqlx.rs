//! sqlx with runtime-tokio, unchanged, on SQLite in memory.

use leakfree::scope;
use sqlx::Row;
use sqlx::sqlite::SqlitePoolOptions;

#[leakfree::test(workers = 2)]
async fn a_pool_of_sqlx_serves_many_tasks() {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    sqlx::query("create table numbers (n integer)").execute(&pool).await.unwrap();
    scope(async |s| {
        for n in 0..100 {
            let pool = pool.clone();
            s.spawn(async move {
                let mut transaction = pool.begin().await.unwrap();
                sqlx::query("insert into numbers values (?)")
                    .bind(n)
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
                // Half of them are dropped half-way, which rolls back.
                if n % 2 == 0 {
                    transaction.commit().await.unwrap();
                }
            });
        }
    })
    .await;
    let row = sqlx::query("select count(*), sum(n) from numbers").fetch_one(&pool).await.unwrap();
    assert_eq!((row.get::<i64, _>(0), row.get::<i64, _>(1)), (50, 2450));
    pool.close().await;
}
